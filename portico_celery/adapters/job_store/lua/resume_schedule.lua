-- Resume a schedule: all until now is settled. 1 where it was paused at that time.
local key = tag .. ':schedule:' .. request.name
local settled_until, paused_at = unpack(redis.call('HMGET', key, 'settled_until', 'paused_at'))
if paused_at ~= request.paused_at then
  return 0
end
redis.call('HDEL', key, 'paused_at', 'owed_until')
if tonumber(settled_until) < now then
  redis.call('HSET', key, 'settled_until', string.format('%.0f', now))
end
return 1
