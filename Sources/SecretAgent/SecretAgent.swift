// SecretAgent
