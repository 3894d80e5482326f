-- Take a job that may start now. Request: id, worker, token, lease (microseconds), and adopt (an object of fields), by
-- which a job that is not stored yet is stored: as taken, or as scheduled where its time is ahead. Answers its row, or
-- nil where it may not start. A claim that is repeated, by its token, is answered as it was.

local id = request.id

local function adopt()
  create(id, request.adopt, {
    status = 'running', run_at = now, knocks = 0, attempt = 1, worker = request.worker, token = request.token,
    started_at = now,
  })
  redis.call('ZADD', LEASES, now + request.lease, id)
end

local function start(job)
  redis.call('ZREM', DUE, id)
  move(id, job, 'running', {
    attempt = job.attempt + 1, worker = request.worker, token = request.token, started_at = now, knocks = 0,
    unhandled_since = false,
  })
  redis.call('ZADD', LEASES, now + request.lease, id)
end

local function schedule()
  create(id, request.adopt, {status = 'scheduled', run_at = request.adopt.scheduled_at, knocks = 0, attempt = 0})
  redis.call('ZADD', DUE, request.adopt.scheduled_at, id)
end

local job = read(id)
if not job and request.adopt and (tonumber(request.adopt.scheduled_at) or now) > now then
  schedule()
  return false
elseif not job and request.adopt then
  adopt()
elseif job and WAITING[job.status] and tonumber(job.run_at) <= now then
  start(job)
elseif job and job.status == 'running' and job.token == request.token then
  even_when_full()
  redis.call('ZADD', LEASES, now + request.lease, id)
elseif job and owes_loss_notice(job) then
  -- Nothing starts; but nobody else is told of it meanwhile.
  redis.call('ZADD', DUE, now + request.lease, id)
else
  return false
end
return whole(id)
