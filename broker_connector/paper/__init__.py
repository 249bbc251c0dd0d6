"""The paper broker: an HTTP and WebSocket server that speaks Kite Connect v3 and trades on a tape of prices."""
