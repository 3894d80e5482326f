-- Note that the handler of a dead letter has heard that its worker was lost. Request: id, attempt.

local job = read(request.id)
if job and owes_loss_notice(job) and tonumber(job.attempt) == request.attempt then
  settle_loss(request.id)
end
return 1
