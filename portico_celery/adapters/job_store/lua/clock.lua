-- Answers the store's clock, in microseconds since the epoch.

return now
