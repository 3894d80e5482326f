-- List jobs, the newest first. Request and answer as in walk.lua.

return walk(whole)
