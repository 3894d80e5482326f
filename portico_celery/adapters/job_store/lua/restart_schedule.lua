-- Let a schedule's fire times count from now on. 1 where it is known.
local key = tag .. ':schedule:' .. request.name
if redis.call('HEXISTS', key, 'settled_until') == 0 then
  return 0
end
local moment = string.format('%.0f', now)
local last_fire = redis.call('HGET', key, 'last_fire')
redis.call('HSET', key, 'settled_until', moment)
redis.call('HDEL', key, 'owed_until')
if last_fire and tonumber(last_fire) > now then
  redis.call('HSET', key, 'last_fire', moment)
end
return 1
