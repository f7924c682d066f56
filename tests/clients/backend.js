// A backend in Node: every command, over the control socket of the environment.
'use strict'
const net = require('node:net')
const { NAME, TOKEN, STRANGER, CONTROL } = process.env
let failed = false

function check (name, found, expected) {
  const same = JSON.stringify(found) === JSON.stringify(expected)
  if (!same) failed = true
  console.log(same ? `ok ${NAME} ${name}` : `not ok ${NAME} ${name}: found ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`)
}

function connect () {
  const [kind, ...rest] = CONTROL.split(':')
  return kind === 'unix' ? net.connect(rest.join(':')) : net.connect(rest[1], rest[0])
}

function command (letter, ...parts) {
  const payload = Buffer.concat(parts.map(part => Buffer.from(part)))
  return Buffer.concat([Buffer.from(`${payload.length}${letter}`), payload])
}

// Replies as [letter, payload], cut from whatever pieces arrive.
async function * replies (socket) {
  let input = ''
  for await (const data of socket) {
    input += data
    for (let match; (match = /^(\d+)([a-zA-Z])/.exec(input)) && input.length >= match[0].length + +match[1];) {
      yield [match[2], input.slice(match[0].length, match[0].length + +match[1])]
      input = input.slice(match[0].length + +match[1])
    }
  }
}

async function main () {
  const socket = connect()
  const reader = replies(socket)
  const answers = async (name, expected, ...frame) => {
    socket.write(command(...frame))
    check(name, (await reader.next()).value, expected)
  }
  socket.write(command('b', 'hällo to all'))
  socket.write(command('B', [0, 255]))
  socket.write(command('d', TOKEN, 'direct €'))
  socket.write(command('D', TOKEN, [255, 0]))
  await answers('confirmed', ['A', TOKEN], 'c', TOKEN, 'confirmed')
  await answers('nobody there', ['N', STRANGER], 'c', STRANGER, 'x')
  await answers('is it there', ['A', TOKEN], 'c', TOKEN)
  for (const [letters, parts] of [['fis', ['one ', 'two ', 'three']], ['FIS', [[0], [1], [2]]]]) {
    await answers('lock', ['A', TOKEN], 'l', TOKEN)
    for (const [index, part] of parts.entries()) await answers(`fragment ${letters[index]}`, ['a', ''], letters[index], part)
  }
  await answers('no lock left', ['n', ''], 's', 'x')
  await answers('ping', ['P', ''], 'p')
  socket.write(command('t'))
  const [letter, status] = (await reader.next()).value
  check('status', [letter, JSON.parse(status).clients], ['T', 1])
  socket.write(command('m'))
  check('freest listener', (await reader.next()).value[0], 'M')
  socket.write(command('q'))
  check('quit', (await reader.next()).done, true)
  await new Promise(resolve => connect().on('close', resolve).end('8bone shot\n').resume())
}

main().catch(error => { console.log(`not ok ${NAME} backend: ${error.message}`); failed = true })
  .finally(() => process.exit(failed ? 1 : 0))
