-- Take a job that may start now. Request: id, worker, lease (microseconds), and adopt (an object of fields), by which
-- a job that is not stored yet is stored as taken. Answers its row, or nil where it may not start.

local id = request.id

local function adopt()
  create(id, request.adopt, {
    status = 'running', run_at = now, knocks = 0, attempt = 1, worker = request.worker, started_at = now,
  })
  redis.call('ZADD', LEASES, now + request.lease, id)
end

local function start(job)
  redis.call('ZREM', DUE, id)
  move(id, job, 'running', {attempt = job.attempt + 1, worker = request.worker, started_at = now, knocks = 0})
  redis.call('ZADD', LEASES, now + request.lease, id)
end

local job = read(id)
if not job and request.adopt then
  adopt()
elseif job and WAITING[job.status] and tonumber(job.run_at) <= now then
  start(job)
elseif job and owes_loss_notice(job) then
  -- Nothing starts; but nobody else is told of it meanwhile.
  redis.call('ZADD', DUE, now + request.lease, id)
else
  return false
end
return whole(id)
