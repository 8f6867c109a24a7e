// LogShipper
