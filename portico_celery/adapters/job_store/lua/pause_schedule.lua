-- Pause a schedule. 1 where it was not paused.
local key = tag .. ':schedule:' .. request.name
if redis.call('HEXISTS', key, 'settled_until') == 0 then
  return 0
end
return redis.call('HSETNX', key, 'paused_at', string.format('%.0f', now))
