"""Who is speaking: principals, peer certificates, revocation."""
