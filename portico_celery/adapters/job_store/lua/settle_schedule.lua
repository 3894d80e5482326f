-- A beat has dealt with a schedule's fire times. 1 where nobody had settled them, or decided upon them, meanwhile.
local key = tag .. ':schedule:' .. request.name
local settled_until, owed_until, last_fire = unpack(redis.call('HMGET', key, 'settled_until', 'owed_until', 'last_fire'))
if not settled_until then
  return 0
end
local effective = settled_until == request.seen and owed_until == (request.seen_owed_until or false)
local newer = request.fire and (not last_fire or tonumber(last_fire) < tonumber(request.fire))
if newer then
  redis.call('HSET', key, 'last_fire', request.fire)
end
if newer or (effective and request.job_id) then
  redis.call('HSET', key, 'last_job_id', request.job_id)
end
if not effective then
  return 0
end
redis.call('HSET', key, 'settled_until', request.settled_until)
if request.owed_until then
  redis.call('HSET', key, 'owed_until', request.owed_until)
else
  redis.call('HDEL', key, 'owed_until')
end
for _, counter in ipairs({'created', 'missed', 'skipped'}) do
  redis.call('HINCRBY', key, counter, request[counter])
end
return 1
