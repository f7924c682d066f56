import hmac, pathlib, secrets, time

def login_cookies():
    """The values of three Set-Cookie headers."""
    secret = pathlib.Path("/etc/wsson/secret").read_text().rstrip("\n")
    token, issued = secrets.token_hex(16), str(int(time.time()))
    digest = hmac.new(secret.encode(), f"{token}\n{issued}".encode(), "sha256").hexdigest()
    cookies = {"token": token, "time": issued, "digest": digest}
    return [f"{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax" for name, value in cookies.items()]
