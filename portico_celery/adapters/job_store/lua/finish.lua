-- End an attempt. Request: id, attempt, expired_only, and where the job goes: status, retry_count, delay
-- (microseconds), worker_lost, result_data, error_message, traceback. Answers the job's row, or nil where the attempt
-- no longer held it.

local MOST_ATTEMPTS = 25  -- a job that is requeued for ever must not grow for ever

local id = request.id
local status = request.status

-- All as text: cjson would round the times.
local function remember(job)
  local attempt = cjson.encode({
    number = job.attempt,
    worker = job.worker,
    started_at = job.started_at,
    ended_at = string.format('%.0f', now),
    error = request.error_message,
    traceback = request.traceback,
  })
  redis.call('RPUSH', history_key(id), attempt)
  redis.call('LTRIM', history_key(id), -MOST_ATTEMPTS, -1)
end

local function changes()
  local values = {
    retry_count = request.retry_count,
    run_at = now + request.delay,
    result_data = request.result_data or false,
    worker_lost = request.worker_lost and 1 or false,
  }
  if status == 'completed' then
    values.completed_at = now
  else
    values.error_message = request.error_message or false
  end
  if REQUEUABLE[status] then
    values.failed_at = now
  end
  return values
end

local job = held()
if not job or (request.expired_only and tonumber(redis.call('ZSCORE', LEASES, id) or 0) > now) then
  return false
end
redis.call('ZREM', LEASES, id)
move(id, job, status, changes())
if status ~= 'completed' then
  remember(job)
end
if WAITING[status] or owes_loss_notice(request) then
  redis.call('ZADD', DUE, now + request.delay, id)
elseif TERMINAL[status] then
  redis.call('ZADD', ENDED, now, id)
end
return whole(id)
