-- Cancel a job that has not started or waits for a retry. Request: id, message. Answers 1 if this call did it, else 0.

local job = read(request.id)
if not (job and WAITING[job.status]) then
  return 0
end
redis.call('ZREM', DUE, request.id)
move(request.id, job, 'failed', {error_message = request.message, failed_at = now, worker_lost = false})
redis.call('ZADD', ENDED, now, request.id)
return 1
