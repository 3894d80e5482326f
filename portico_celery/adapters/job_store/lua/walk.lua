-- Walking through the jobs that a filter means, the newest first.
--
-- Request: wanted (an object: queue, type, status, creator) and, where they are asked for, error (a part of the message),
-- ended_since and ended_until, ids, and before (a bound on the order of creation). limit is how many to find, most is how
-- many to look at in one call, for the sake of everybody else's.

local SLICE = 100  -- jobs that are fetched from an index at once

-- The shortest index that holds all that is wanted.
local function shortest_index()
  local shortest, size = tag .. ':created', math.huge
  for kind, value in pairs(request.wanted) do
    local index = index_key(kind, value)
    local length = redis.call('ZCARD', index)
    if length < size then
      shortest, size = index, length
    end
  end
  return shortest
end

-- How to get the next ids, each followed by its place in the order of creation.
local function slices_of_index(index)
  return function(before)
    local bound = before and string.format('(%.0f', before) or '+inf'
    return redis.call('ZREVRANGEBYSCORE', index, bound, '-inf', 'WITHSCORES', 'LIMIT', 0, SLICE)
  end
end

local function slices_of_named()
  local named = {}
  for _, id in ipairs(request.ids) do
    local place = tonumber(redis.call('HGET', job_key(id), 'sequence') or nil)
    if place then
      table.insert(named, {id = id, place = place})
    end
  end
  table.sort(named, function(one, other) return one.place > other.place end)
  return function(before)
    local slice = {}
    for _, job in ipairs(named) do
      if (not before or job.place < before) and #slice < 2 * SLICE then
        table.insert(slice, job.id)
        table.insert(slice, job.place)
      end
    end
    return slice
  end
end

local function is_wanted(id)
  local values = redis.call('HMGET', job_key(id),
    'status', 'queue_name', 'job_type', 'created_by', 'error_message', 'completed_at', 'failed_at')
  local found = {status = values[1], queue = values[2], type = values[3], creator = values[4]}
  for kind, value in pairs(request.wanted) do
    if found[kind] ~= value then
      return false
    end
  end
  local error, ended_at = values[5], tonumber(values[6] or values[7] or nil)
  return found.status  -- false for one that is gone
    and (not request.error or error and error:find(request.error, 1, true))
    and (not request.ended_since or ended_at and ended_at >= request.ended_since)
    and (not request.ended_until or ended_at and ended_at < request.ended_until)
end

-- Call act with the id of each job that is wanted; it returns its row, or false where there is nothing to do. Answers the rows, where to go on, and 1 where there is nothing more.
local function walk(act)
  local next_slice = request.ids and slices_of_named() or slices_of_index(shortest_index())
  local before, rows, looked_at = request.before, {}, 0
  while looked_at < request.most do
    local slice = next_slice(before)
    for position = 1, #slice, 2 do
      before = tonumber(slice[position + 1])
      local id = slice[position]
      local row = is_wanted(id) and act(id)
      if row then
        table.insert(rows, row)
      end
      if #rows == request.limit then
        return {rows, before, 0}
      end
    end
    if #slice < 2 * SLICE then
      return {rows, 0, 1}
    end
    looked_at = looked_at + SLICE
  end
  return {rows, before, 0}
end
