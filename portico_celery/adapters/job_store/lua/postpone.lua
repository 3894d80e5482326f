-- Put back a job that a worker has no handler for, or give it up. Request: id, job_type, patience, shortest, longest
-- (microseconds), message and last_message, what is said of it in either case, and no_handler, how message begins.
-- Answers its row, or nil where it may not start, and owes no notice either, or is of another type.

local id = request.id

-- As lifecycle.postponed: what its handler has still to hear of a lost worker stays at the end.
local function told(job, given_up)
  local message = given_up and request.last_message or request.message
  if not job.worker_lost then
    return message
  end
  local error = redis.call('HGET', job_key(id), 'error_message') or ''
  if not given_up and error:sub(1, #request.no_handler) == request.no_handler then
    return error
  end
  return message .. '. ' .. error
end

local function go_on(job, since)
  local run_at = now + math.min(request.longest, math.max(request.shortest, now - since))
  local status = job.status == 'scheduled' and 'pending' or job.status
  redis.call('ZREM', DUE, id)
  move(id, job, status, {error_message = told(job, false), run_at = run_at, knocks = 0, unhandled_since = since})
  redis.call('ZADD', DUE, run_at, id)
end

local function give_up(job)
  redis.call('ZREM', DUE, id)
  move(id, job, 'dead_letter', {error_message = told(job, true), failed_at = now, knocks = 0, unhandled_since = false})
  redis.call('ZADD', job.worker_lost and DUE or ENDED, now, id)
end

local job = read(id)
if not job or job.job_type ~= request.job_type then
  return false
end
local waits = WAITING[job.status] and tonumber(job.run_at) <= now
if not waits and not owes_loss_notice(job) then
  return false
end
local since = tonumber(job.unhandled_since) or now
local given_up = now - since >= request.patience
if waits and given_up then
  give_up(job)
elseif waits then
  go_on(job, since)
elseif given_up then
  settle_loss(id)
else
  even_when_full()
  redis.call('HSET', job_key(id), 'unhandled_since', since)
end
return whole(id)
