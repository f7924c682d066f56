<?php
// A backend in PHP: every command, over the control socket of the environment.
declare(strict_types=1);
$failed = false;
[$name, $token, $stranger] = [getenv('NAME'), getenv('TOKEN'), getenv('STRANGER')];
[$kind, $rest] = explode(':', getenv('CONTROL'), 2);
$address = "$kind://$rest";

function check(string $what, mixed $found, mixed $expected): void
{
    global $failed, $name;
    if ($found === $expected) {
        echo "ok $name $what\n";
    } else {
        $failed = true;
        echo "not ok $name $what: found " . json_encode($found) . ', expected ' . json_encode($expected) . "\n";
    }
}

function command($backend, string $letter, string $payload = ''): void
{
    fwrite($backend, strlen($payload) . $letter . $payload);
}

function reply($backend): ?array
{
    for ($length = ''; ctype_digit($sign = (string) fgetc($backend)); $length .= $sign);
    return $sign === '' ? null : [$sign, $length > 0 ? stream_get_contents($backend, (int) $length) : ''];
}

$backend = stream_socket_client($address);
stream_set_timeout($backend, 10);
$answers = function (string $what, array $expected, string $letter, string $payload) use ($backend): void {
    command($backend, $letter, $payload);
    check($what, reply($backend), $expected);
};
command($backend, 'b', 'hällo to all');
command($backend, 'B', "\0\xff");
command($backend, 'd', $token . 'direct €');
command($backend, 'D', $token . "\xff\0");
$answers('confirmed', ['A', $token], 'c', $token . 'confirmed');
$answers('nobody there', ['N', $stranger], 'c', $stranger . 'x');
$answers('is it there', ['A', $token], 'c', $token);
foreach (['fis' => ['one ', 'two ', 'three'], 'FIS' => ["\0", "\1", "\2"]] as $letters => $parts) {
    $answers('lock', ['A', $token], 'l', $token);
    foreach ($parts as $index => $part) {
        $answers("fragment $letters[$index]", ['a', ''], $letters[$index], $part);
    }
}
$answers('no lock left', ['n', ''], 's', 'x');
$answers('ping', ['P', ''], 'p', '');
command($backend, 't');
[$letter, $status] = reply($backend);
check('status', [$letter, json_decode($status, true)['clients']], ['T', 1]);
command($backend, 'm');
check('freest listener', reply($backend)[0], 'M');
command($backend, 'q');
check('quit', reply($backend), null);

// What a page does: one line, and the connection is gone.
fwrite(stream_socket_client($address), "8bone shot\n");
exit($failed ? 1 : 0);
