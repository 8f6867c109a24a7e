// TrafficProxy
