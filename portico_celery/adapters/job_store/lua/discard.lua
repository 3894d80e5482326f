-- Delete a job that has ended. Request: id. Answers 1 if this call did it, else 0.

local job = read(request.id)
if not (job and TERMINAL[job.status]) then
  return 0
end
remove(request.id, job)
return 1
