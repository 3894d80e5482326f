-- The head of every script: the names of the keys, the store's clock, and the steps that the transitions share.
--
-- KEYS[1] is the hash tag that every key begins with, so that a cluster keeps them all on one node. ARGV[1] shifts
-- the clock, in microseconds (only tests do), and ARGV[2] is the request, a JSON object in which nothing is null.
--
-- A job is a hash of texts; a field that is absent is None in Python. Payloads, results and envelopes are JSON that
-- no script looks into: cjson would turn {} into [] and round large integers. Times are whole microseconds since the
-- epoch, which Lua's numbers hold exactly until the year 2255.

local tag = KEYS[1]
local request = cjson.decode(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2] + ARGV[1]

local WAITING = {pending = true, scheduled = true, retrying = true}
local REQUEUABLE = {failed = true, dead_letter = true}
local TERMINAL = {completed = true, failed = true, dead_letter = true}

-- Sorted sets of ids, by the time at which somebody should look. Leases are apart from what is due for a knock:
-- those that have expired stay until they are reaped, and the sweep must not wade through them.
local DUE = tag .. ':due'        -- waiting jobs, and dead letters that owe a notice: the next knock
local LEASES = tag .. ':leases'  -- running jobs: the end of their lease
local WAITS = tag .. ':waits'    -- waiting jobs: since when, or from when on, they may start
local ENDED = tag .. ':ended'    -- jobs that ended, and owe no notice: when they did

-- A Redis that is full aborts a script whose first write may take memory, and lets any other go on to its end. It shall
-- take no new jobs then, but those it has shall run and end, and so make room: their scripts begin with a removal. This
-- one is for those that have nothing to remove.
local function even_when_full()
  redis.call('ZREM', DUE, '')
end

local function job_key(id)
  return tag .. ':job:' .. id
end

local function history_key(id)
  return tag .. ':history:' .. id
end

-- Sorted sets of ids, in the order of their creation.
local function index_key(kind, value)
  return tag .. ':by-' .. kind .. ':' .. value
end

local function index_keys(job)
  local keys = {
    tag .. ':created',
    index_key('queue', job.queue_name),
    index_key('type', job.job_type),
    index_key('status', job.status),
  }
  if job.created_by then
    table.insert(keys, index_key('creator', job.created_by))
  end
  return keys
end

-- How many jobs of a queue have a status: all of them, and those of each creator.
local function count(job, status, difference)
  redis.call('HINCRBY', tag .. ':counts:' .. job.queue_name, status, difference)
  if job.created_by then
    local own = tag .. ':counts-of:' .. job.created_by .. ':' .. job.queue_name
    if redis.call('HINCRBY', own, status, difference) == 0 then
      -- Creators may be as many as an application has users: nothing is left of those whose jobs are gone.
      redis.call('HDEL', own, status)
    end
  end
end

-- What transitions decide by; false for a field that is absent.
local READ = {'status', 'queue_name', 'job_type', 'sequence', 'attempt', 'worker', 'token', 'started_at', 'run_at',
  'knocks', 'worker_lost', 'unhandled_since', 'created_by'}

-- The job, or false.
local function read(id)
  local values = redis.call('HMGET', job_key(id), unpack(READ))
  local job = {}
  for position, name in ipairs(READ) do
    job[name] = values[position]
  end
  return job.status and job
end

-- The whole row, all texts, as one JSON object: Python reads that several times faster than forty single texts.
local function whole(id)
  local fields, row = redis.call('HGETALL', job_key(id)), {}
  for position = 1, #fields, 2 do
    row[fields[position]] = fields[position + 1]
  end
  return cjson.encode(row)
end

-- The job that the request is about, where the request's attempt holds it; else false.
local function held()
  local job = read(request.id)
  return job and job.status == 'running' and tonumber(job.attempt) == request.attempt and job
end

local function owes_loss_notice(job)
  return job.worker_lost and job.status == 'dead_letter'
end

-- Nobody need be told any more of a dead letter's loss: it may be deleted as others that ended when it did.
local function settle_loss(id)
  redis.call('ZREM', DUE, id)
  redis.call('HDEL', job_key(id), 'worker_lost', 'unhandled_since')
  redis.call('ZADD', ENDED, redis.call('HGET', job_key(id), 'failed_at'), id)
end

-- Set the fields of a job, and remove those that are false.
local function change(id, values)
  local present, absent = {}, {}
  for name, value in pairs(values) do
    if value == false then
      table.insert(absent, name)
    else
      table.insert(present, name)
      table.insert(present, value)
    end
  end
  redis.call('HSET', job_key(id), unpack(present))
  if #absent > 0 then
    redis.call('HDEL', job_key(id), unpack(absent))
  end
end

-- 1 for a job for which a message should be under way: it waits, and has been knocked for; else 0.
local function awaits_its_message(status, knocks)
  return WAITING[status] and tonumber(knocks) > 0 and 1 or 0
end

-- Beside the counts of a queue by status: how many of its jobs have been knocked for.
local function count_knocked(queue_name, difference)
  if difference ~= 0 then
    redis.call('HINCRBY', tag .. ':counts:' .. queue_name, 'knocked', difference)
  end
end

-- Where a job stands among those that wait; run_at only where it has changed.
local function note_waiting(id, before, after, run_at)
  if WAITING[after] and run_at then
    redis.call('ZADD', WAITS, run_at, id)
  elseif WAITING[before] and not WAITING[after] then
    redis.call('ZREM', WAITS, id)
  end
end

-- Store a job that is new: the fields that its caller decides, and those that the store adds.
local function create(id, given, added)
  local job = {sequence = redis.call('INCR', tag .. ':sequence'), created_at = now}
  for _, values in ipairs({given, added}) do
    for name, value in pairs(values) do
      job[name] = value
    end
  end
  change(id, job)
  for _, index in ipairs(index_keys(job)) do
    redis.call('ZADD', index, job.sequence, id)
  end
  note_waiting(id, nil, job.status, job.run_at)
  count(job, job.status, 1)
  count_knocked(job.queue_name, awaits_its_message(job.status, job.knocks))
end

-- Change a job's state, and set further fields.
local function move(id, job, status, values)
  if status ~= job.status then
    redis.call('ZREM', index_key('status', job.status), id)
    redis.call('ZADD', index_key('status', status), job.sequence, id)
    count(job, job.status, -1)
    count(job, status, 1)
  end
  note_waiting(id, job.status, status, values.run_at)
  local knocked = awaits_its_message(status, values.knocks or job.knocks)
  count_knocked(job.queue_name, knocked - awaits_its_message(job.status, job.knocks))
  values.status = status
  change(id, values)
end

local MOST_ATTEMPTS = 25  -- a job that is requeued for ever must not grow for ever

-- Add the attempt that holds the job, and ends badly, to its history. All as text: cjson would round the times.
local function remember(id, job, error, traceback)
  local attempt = cjson.encode({
    number = job.attempt,
    worker = job.worker,
    started_at = job.started_at,
    ended_at = string.format('%.0f', now),
    error = error,
    traceback = traceback,
  })
  redis.call('RPUSH', history_key(id), attempt)
  redis.call('LTRIM', history_key(id), -MOST_ATTEMPTS, -1)
end

-- Delete a job, its history, and all that points to it.
local function remove(id, job)
  redis.call('DEL', job_key(id), history_key(id))
  for _, index in ipairs(index_keys(job)) do
    redis.call('ZREM', index, id)
  end
  redis.call('ZREM', DUE, id)
  redis.call('ZREM', ENDED, id)
  count(job, job.status, -1)
end
