<?php
// A browser's side on a bare socket: PHP has no WebSocket client, and a dozen lines are one.
declare(strict_types=1);
$failed = false;

function check(string $name, mixed $found, mixed $expected): void
{
    global $failed;
    if ($found === $expected) {
        echo "ok php $name\n";
    } else {
        $failed = true;
        echo "not ok php $name: found " . json_encode($found, JSON_INVALID_UTF8_SUBSTITUTE),
            ', expected ' . json_encode($expected, JSON_INVALID_UTF8_SUBSTITUTE) . "\n";
    }
}

function request(string $cookie, string $origin)
{
    $socket = stream_socket_client('tcp://127.0.0.1:' . getenv('WS_PORT'), $code, $text, 10);
    stream_set_timeout($socket, 10);
    $head = "GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        . "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    fwrite($socket, $head . "Origin: $origin\r\nCookie: $cookie\r\n\r\n");
    return $socket;
}

function head($socket): string
{
    for ($head = ''; !str_ends_with($head, "\r\n\r\n") && ($line = fgets($socket)) !== false; $head .= $line);
    return $head;
}

function frame(int $first, string $payload): string
{
    $mask = random_bytes(4);
    $masked = $payload ^ str_repeat($mask, intdiv(strlen($payload), 4) + 1);
    return chr($first) . chr(0x80 | strlen($payload)) . $mask . substr($masked, 0, strlen($payload));
}

function receive($socket): array
{
    $head = fread($socket, 2);
    $length = ord($head[1]);
    return [ord($head[0]), $length ? stream_get_contents($socket, $length) : ''];
}

$client = request(getenv('COOKIE'), getenv('ORIGIN'));
$head = head($client);
check('connect', substr($head, 0, 12), 'HTTP/1.1 101');
check('accept', (bool) preg_match('/^Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=\r$/mi', $head), true);
fwrite($client, frame(0x81, 'hällo'));
check('text', receive($client), [0x81, 'hällo']);
fwrite($client, frame(0x82, "\0\xff"));
check('binary', receive($client), [0x82, "\0\xff"]);
fwrite($client, frame(0x01, 'frag') . frame(0x00, 'men') . frame(0x80, 'ts'));
check('sends fragments', receive($client), [0x81, 'fragments']);
fwrite($client, frame(0x89, 'payload'));
check('ping', receive($client), [0x8a, 'payload']);

[$kind, $rest] = explode(':', getenv('CONTROL'), 2);
$backend = stream_socket_client("$kind://$rest");
fwrite($backend, '32l' . getenv('TOKEN') . '4fone 4itwo 5sthree0q');
check('backend locks', stream_get_contents($backend), '32A' . getenv('TOKEN') . '0a0a0a');
$frames = [receive($client), receive($client), receive($client)];
check('receives fragments', $frames, [[0x01, 'one '], [0x00, 'two '], [0x80, 'three']]);
fwrite($client, frame(0x88, pack('n', 4001) . 'bye'));
check('close', substr(receive($client)[1], 0, 2), pack('n', 4001));
check('end', stream_get_contents($client), '');

$refusals = [
    'wrong digest' => [getenv('BAD_COOKIE'), getenv('ORIGIN')],
    'no cookie' => ['', getenv('ORIGIN')],
    'wrong origin' => [getenv('COOKIE'), 'https://example.com.evil'],
];
foreach ($refusals as $name => [$cookie, $origin]) {
    $answer = stream_get_contents(request($cookie, $origin));
    check("refused: $name", [substr($answer, 0, 12), str_contains($answer, "\r\n\r\n")], ['HTTP/1.1 403', true]);
}
exit($failed ? 1 : 0);
