// A browser's side with the npm module `ws`: connect, messages, fragments, ping, close, refusals.
'use strict'
const net = require('node:net')
const WebSocket = require('ws')
const env = process.env
let failed = false

function check (name, found, expected) {
  const same = JSON.stringify(found) === JSON.stringify(expected)
  if (!same) failed = true
  console.log(same ? `ok node ${name}` : `not ok node ${name}: found ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`)
}

function open (cookie = env.COOKIE, origin = env.ORIGIN) {
  const headers = {}
  if (cookie) headers.Cookie = cookie
  if (origin) headers.Origin = origin
  return new WebSocket(`ws://127.0.0.1:${env.WS_PORT}/`, { headers })
}

const once = (emitter, event) => new Promise((resolve, reject) => {
  emitter.once(event, (...values) => resolve(values))
  emitter.once('error', reject)
})

async function message (client) {
  const [data, isBinary] = await once(client, 'message')
  return isBinary ? [...data] : data.toString()
}

async function refused (name, cookie, origin) {
  const [, response] = await once(open(cookie, origin), 'unexpected-response')
  check(`refused: ${name}`, [response.statusCode, response.headers.connection], [403, 'close'])
  response.destroy()
}

async function backendSendsFragments () {
  const [kind, ...rest] = env.CONTROL.split(':')
  const backend = kind === 'unix' ? net.connect(rest.join(':')) : net.connect(rest[1], rest[0])
  backend.end(`32l${env.TOKEN}4fone 4itwo 5sthree`)
  let replies = ''
  for await (const data of backend) replies += data
  check('backend locks and sends fragments', replies, `32A${env.TOKEN}0a0a0a`)
}

async function main () {
  const client = open()
  await once(client, 'open')
  check('connect', client.extensions, '')
  for (const [name, data] of [['text', 'hällo 𐍈'], ['empty', ''], ['large', 'x'.repeat(1000000)]]) {
    client.send(data)
    check(name, await message(client), data)
  }
  client.send(Buffer.from([0, 255]))
  check('binary', await message(client), [0, 255])
  client.send('frag', { fin: false })
  client.send('men', { fin: false })
  client.send('ts', { fin: true })
  check('sends fragments', await message(client), 'fragments')
  client.ping('payload')
  check('ping', (await once(client, 'pong'))[0].toString(), 'payload')
  const received = message(client)
  await backendSendsFragments()
  check('receives fragments', await received, 'one two three')
  client.close(4001, 'bye')
  check('close', (await once(client, 'close'))[0], 4001)
  await refused('wrong digest', env.BAD_COOKIE)
  await refused('no cookie', '')
  await refused('wrong origin', undefined, 'https://example.com.evil')
  await refused('no origin', undefined, '')
}

main().catch(error => { console.log(`not ok node client: ${error.message}`); failed = true })
  .finally(() => process.exit(failed ? 1 : 0))
