module outrider.example/secrets

go 1.21
