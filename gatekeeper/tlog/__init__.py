"""C2SP log formats and RFC 6962 trees; pure."""
