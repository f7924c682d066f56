<?php
/** The worker of the chat, in PHP without a library. Start as many as you like: each line is handled by one of them, and
 *  what one had not confirmed when it died is told to another. */
const ROOMS = ['lobby', 'kitchen', 'garden'];
define('CONTROL', getenv('CHAT_CONTROL') ?: '/run/wsson/control.sock');
define('HISTORY', getenv('CHAT_HISTORY') ?: 'history.jsonl');
define('MODERATORS', explode(',', getenv('CHAT_MODERATORS') ?: 'Mo'));
const JSON = JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE;

class Wsson {
    private $asked = [];   // the rooms that answers to `h` are about, in order
    public function __construct(private $socket) {}
    public function command(string $letter, string $payload = ''): void {
        for ($rest = strlen($payload) . $letter . $payload; $rest !== ''; $rest = substr($rest, $sent)) {
            $sent = @fwrite($this->socket, $rest) ?: throw new RuntimeException('wsson is gone');
        }
    }

    /** The next frame as letter and payload, null when wsson has closed. */
    public function frame(): ?array {
        for ($length = ''; ctype_digit($byte = (string) fgetc($this->socket)); $length .= $byte);
        return $byte === '' ? null : [$byte, $length > 0 ? stream_get_contents($this->socket, (int) $length) : ''];
    }

    public function write(string $to, array $message): void {
        $this->command('w', "$to " . json_encode($message, JSON));
    }

    public function askWhoIsHere(): void {
        array_push($this->asked, ...ROOMS);
        array_map(fn($room) => $this->command('h', "g:$room"), ROOMS);
    }

    public function isHere(array $answer): void {
        $names = array_column($answer['users'] ?? [], 'name');
        sort($names) and $room = array_shift($this->asked);
        $this->write("g:$room", ['type' => 'here', 'room' => $room, 'names' => $names]);
    }
}

/** The end of the history, which all workers append to. */
function recent(): array {
    clearstatcache();
    $end = is_file(HISTORY) ? file_get_contents(HISTORY, false, null, max(0, filesize(HISTORY) - 65536)) : '';
    return array_values(array_filter(array_map(fn($line) => json_decode($line, true), explode("\n", $end))));
}

function say(Wsson $wsson, string $user, string $room, array $said): void {
    $line = ['type' => 'line', 'id' => substr($said['id'], 0, 40), 'room' => $room, 'name' => $user,
        'text' => preg_replace('/^(.{1000}).*$/su', '$1', $said['text']), 'time' => time()];
    // A page that was cut off says a line again, and what another worker left may be done already.
    if (!in_array($line['id'], array_column(recent(), 'id'), true)) {
        file_put_contents(HISTORY, json_encode($line, JSON) . "\n", FILE_APPEND);   // one write: lines of workers do not mix
    }
    $wsson->write("g:$room", $line);
}

function message(Wsson $wsson, string $connection, string $user, array $said): void {
    ['type' => $kind, 'room' => $room] = $said + ['type' => '', 'room' => ''];
    if ($kind === 'kick' && in_array($user, MODERATORS, true) && ctype_alnum($said['name'] ?? '')) {
        $wsson->command('k', "u:{$said['name']} $user asked you to leave");
    } elseif (!in_array($room, ROOMS, true)) {   // not one of our page's
    } elseif ($kind === 'join') {
        $wsson->command('J', implode(',', ROOMS) . " c:$connection");
        $wsson->command('j', "$room c:$connection");
        $lines = array_values(array_filter(recent(), fn($line) => $line['room'] === $room));
        $wsson->write("c:$connection", ['type' => 'history', 'room' => $room, 'lines' => array_slice($lines, -20),
            'may_kick' => in_array($user, MODERATORS, true)]);
        $wsson->askWhoIsHere();
    } elseif ($kind === 'say' && is_string($said['id'] ?? null) && is_string($said['text'] ?? null)) {
        say($wsson, $user, $room, $said);
    } elseif ($kind === 'typing') {
        $wsson->write("g:$room,-c:$connection", ['type' => 'typing', 'room' => $room, 'name' => $user]);
    }
}

function serve(Wsson $wsson): void {
    $wsson->command('e', 'message,close as=chat ack');
    while ([$letter, $payload] = $wsson->frame()) {
        if ($letter === 'g') {
            [$number, $connection, , $user, $text] = explode(' ', $payload, 5);
            is_array($said = json_decode($text, true)) and message($wsson, $connection, $user, $said);
            $wsson->command('a', rtrim($number, '+'));
        } elseif ($letter === 'e' && isset(($event = json_decode($payload, true))['n'])) {
            $wsson->askWhoIsHere();
            $wsson->command('a', (string) $event['n']);
        } elseif ($letter === 'H') {
            $wsson->isHere(json_decode($payload, true));
        } elseif ($letter === 'p') {
            $wsson->command('P');
        }
    }
}

ini_set('default_socket_timeout', '-1');   // wsson asks for a sign of life; silence is no fault
for (;; usleep(300_000)) {   // wsson restarts
    try {
        ($socket = @stream_socket_client('unix://' . CONTROL)) and serve(new Wsson($socket));
    } catch (RuntimeException) {}
}
