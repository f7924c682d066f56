# fish completion of wsson(8). Held against "wsson help" by tests/manual.rs.

set -l commands run start stop restart reload status check cookie send demo help version
set -l before "not __fish_seen_subcommand_from $commands"

complete -c wsson -f
complete -c wsson -n "$before" -a run -d 'Serve in the foreground'
complete -c wsson -n "$before" -a start -d 'Detach and serve'
complete -c wsson -n "$before" -a stop -d 'Stop the running server'
complete -c wsson -n "$before" -a restart -d 'Stop, then start'
complete -c wsson -n "$before" -a reload -d 'Apply a changed configuration'
complete -c wsson -n "$before" -a status -d 'Show what the server does'
complete -c wsson -n "$before" -a check -d 'Verify the configuration'
complete -c wsson -n "$before" -a cookie -d 'Issue the cookies of a login'
complete -c wsson -n "$before" -a send -d 'Send a message'
complete -c wsson -n "$before" -a demo -d 'Show everything at work in a browser'
complete -c wsson -n "$before" -a help -d 'Show help'
complete -c wsson -n "$before" -a version -d 'Show the version'
complete -c wsson -n "$before" -s V -l version -d 'Show the version'
complete -c wsson -s h -l help -d 'Show help'

complete -c wsson -n "not __fish_seen_subcommand_from demo help version" -s c -l config -r -F -d 'The configuration'
complete -c wsson -n "__fish_seen_subcommand_from run start restart reload check cookie" -l allow-weak -d 'Accept weak secrets'
complete -c wsson -n "__fish_seen_subcommand_from run start restart" -s v -l verbose -d 'Log every connection as well'
complete -c wsson -n "__fish_seen_subcommand_from stop" -l now -d 'Kill it, clients or not'
complete -c wsson -n "__fish_seen_subcommand_from check" -l bind -d 'Try the addresses as well'
complete -c wsson -n "__fish_seen_subcommand_from status send" -l control -x -a 'unix:// tcp://' -d 'The control socket'
complete -c wsson -n "__fish_seen_subcommand_from status" -l json -d 'One JSON object'
complete -c wsson -n "__fish_seen_subcommand_from status" -l watch -d 'Again every second'
complete -c wsson -n "__fish_seen_subcommand_from cookie send" -l token -x -d 'The token'
complete -c wsson -n "__fish_seen_subcommand_from cookie" -l user -x -d 'The user'
complete -c wsson -n "__fish_seen_subcommand_from cookie" -l time -x -d 'The unix time of issue'
complete -c wsson -n "__fish_seen_subcommand_from cookie" -l format -x -a 'js header curl json' -d 'The form'
complete -c wsson -n "__fish_seen_subcommand_from cookie" -l verify -x -d 'Judge a Cookie header'
complete -c wsson -n "__fish_seen_subcommand_from send" -l all -d 'Send to every client'
complete -c wsson -n "__fish_seen_subcommand_from send" -l binary -d 'As a binary message'
complete -c wsson -n "__fish_seen_subcommand_from send" -l confirm -d 'Wait for the answer'
complete -c wsson -n "__fish_seen_subcommand_from demo" -l port -x -d 'The port on 127.0.0.1'
complete -c wsson -n "__fish_seen_subcommand_from help" -a "$commands"
