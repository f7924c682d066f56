<?php
$secret = rtrim(file_get_contents('/etc/wsson/secret'), "\n");
$token = bin2hex(random_bytes(16));
$time = (string) time();
$options = ['path' => '/', 'secure' => true, 'httponly' => true, 'samesite' => 'Lax'];
setcookie('token', $token, $options);
setcookie('time', $time, $options);
setcookie('digest', hash_hmac('sha256', "$token\n$time", $secret), $options);
