-- End an attempt. Request: id, attempt, expired_only, and where the job goes: status, retry_count, delay
-- (microseconds), worker_lost, result_data, error_message, traceback. Answers the job's row, or nil where the attempt
-- no longer held it; a worker's end that has taken effect already, and still stands, is answered again.

local id = request.id
local status = request.status

-- As lifecycle.is_finished_so, and by the same attempt with the same result.
local function is_repeated()
  local stored = redis.call('HMGET', job_key(id), 'status', 'attempt', 'retry_count', 'result_data', 'error_message')
  return not request.expired_only
    and stored[1] == status
    and tonumber(stored[2]) == request.attempt
    and tonumber(stored[3]) == request.retry_count
    and stored[4] == (request.result_data or false)
    and (status == 'completed' or stored[5] == (request.error_message or false))
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
if not job then
  return is_repeated() and whole(id)
end
if request.expired_only and tonumber(redis.call('ZSCORE', LEASES, id) or 0) > now then
  return false
end
redis.call('ZREM', LEASES, id)
move(id, job, status, changes())
if status ~= 'completed' then
  remember(id, job, request.error_message, request.traceback)
end
if WAITING[status] or owes_loss_notice(request) then
  redis.call('ZADD', DUE, now + request.delay, id)
elseif TERMINAL[status] then
  redis.call('ZADD', ENDED, now, id)
end
return whole(id)
