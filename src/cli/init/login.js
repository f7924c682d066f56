const crypto = require("crypto"), fs = require("fs");

/** The values of three Set-Cookie headers. */
function loginCookies() {
    const secret = fs.readFileSync("/etc/wsson/secret", "utf8").replace(/\n$/, "");
    const token = crypto.randomBytes(16).toString("hex"), time = String(Math.floor(Date.now() / 1000));
    const digest = crypto.createHmac("sha256", secret).update(`${token}\n${time}`).digest("hex");
    return Object.entries({ token, time, digest })
        .map(([name, value]) => `${name}=${value}; Path=/; Secure; HttpOnly; SameSite=Lax`);
}
