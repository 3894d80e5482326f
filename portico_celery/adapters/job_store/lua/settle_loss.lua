-- Note that the handler of a dead letter has heard that its worker was lost. Request: id, attempt.

local job = read(request.id)
if job and owes_loss_notice(job) and tonumber(job.attempt) == request.attempt then
  redis.call('ZREM', DUE, request.id)
  redis.call('HDEL', job_key(request.id), 'worker_lost')
  -- From now on nobody waits for it, and it may be deleted as others that ended when it did.
  redis.call('ZADD', ENDED, redis.call('HGET', job_key(request.id), 'failed_at'), request.id)
end
return 1
