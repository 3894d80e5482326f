-- Walk through jobs, the newest first. Request: wanted (an object: queue, type, status), before (a bound on the
-- order of creation), limit, and most, how many jobs to look at in one call, for the sake of everybody else's.
-- Answers the rows that were found, where to go on, and 1 where there is nothing more.

local FIELDS = {queue = 'queue_name', type = 'job_type', status = 'status'}

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

local function is_wanted(job)
  for kind, value in pairs(request.wanted) do
    if job[FIELDS[kind]] ~= value then
      return false
    end
  end
  return true
end

local index, before = shortest_index(), request.before
local rows, looked_at = {}, 0
while #rows < request.limit and looked_at < request.most do
  local slice = redis.call('ZREVRANGEBYSCORE', index, before, '-inf', 'WITHSCORES', 'LIMIT', 0, request.limit)
  for position = 1, #slice, 2 do
    local job = read(slice[position])
    if job and is_wanted(job) then
      table.insert(rows, whole(slice[position]))
    end
    before = '(' .. slice[position + 1]
    if #rows == request.limit then
      break
    end
  end
  looked_at = looked_at + #slice / 2
  if #rows < request.limit and #slice < 2 * request.limit then
    return {rows, before, 1}
  end
end
return {rows, before, 0}
