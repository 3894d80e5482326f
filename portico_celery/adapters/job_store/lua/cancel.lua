-- Cancel a job that has not started or waits for a retry, or, with running, that runs. Request: id, running, message.
-- Answers 1 if this call did it, else 0.

local job = read(request.id)
local runs = job and job.status == 'running'
if not (job and (WAITING[job.status] or (request.running and runs))) then
  return 0
end
redis.call('ZREM', DUE, request.id)
redis.call('ZREM', LEASES, request.id)
if runs then
  remember(request.id, job, request.message)
end
move(request.id, job, 'failed', {error_message = request.message, failed_at = now, worker_lost = false})
redis.call('ZADD', ENDED, now, request.id)
return 1
