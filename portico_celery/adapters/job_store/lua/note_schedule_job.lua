-- A schedule's job was made that no beat settles. 1 where the schedule is known.
local key = tag .. ':schedule:' .. request.name
local settled_until, last_fire = unpack(redis.call('HMGET', key, 'settled_until', 'last_fire'))
if not settled_until then
  return 0
end
redis.call('HSET', key, 'last_job_id', request.job_id)
if request.fire and (not last_fire or tonumber(last_fire) < tonumber(request.fire)) then
  redis.call('HSET', key, 'last_fire', request.fire)
end
redis.call('HINCRBY', key, 'created', request.created)
return 1
