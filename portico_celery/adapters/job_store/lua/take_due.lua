-- Find what is due, move the due time of what to knock for, and delete what ended too long ago.
-- Request: limit, knock, longest_knock (microseconds), most_doublings, keep (microseconds), most_deleted.
-- Answers the rows to knock for, the rows whose lease has expired, and the microseconds until the next is due, or nil.

local function ripe(set, latest, limit)
  return redis.call('ZRANGEBYSCORE', set, '-inf', latest, 'LIMIT', 0, limit)
end

-- The longest due come first. A row that is gone (evicted, or deleted by hand) would be due for ever.
local function each_ripe(set, latest, limit, act)
  local rows = {}
  local ids = ripe(set, latest, limit)
  for _, id in ipairs(ids) do
    local job = read(id)
    if job then
      rows[#rows + 1] = act(id, job)
    else
      redis.call('ZREM', set, id)
    end
  end
  return rows, #ids == limit
end

local function knock(id, job)
  local delay = request.knock * 2 ^ math.min(job.knocks, request.most_doublings)
  redis.call('ZADD', DUE, now + math.min(request.longest_knock, delay), id)
  move(id, job, job.status == 'scheduled' and 'pending' or job.status, {knocks = job.knocks + 1})
  return whole(id)
end

-- The next time in a set, or nothing.
local function next_time(set)
  local found = redis.call('ZRANGEBYSCORE', set, string.format('(%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return tonumber(found[2])
end

local function next_due_in()
  local due, lease = next_time(DUE), next_time(LEASES)
  local first = due and lease and math.min(due, lease) or due or lease
  return first and first - now or false
end

even_when_full()
local _, more_to_delete = each_ripe(ENDED, now - request.keep, request.most_deleted, remove)
local expired, more_expired = each_ripe(LEASES, now, request.limit, whole)
local knocks, more_knocks = each_ripe(DUE, now, request.limit, knock)
local busy = more_to_delete or more_expired or more_knocks
return {knocks, expired, busy and 0 or next_due_in()}
