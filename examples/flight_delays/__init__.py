"""Flight delays: a model, a real log of 336,776 requests, the advice, and a replay to check it."""
