# bash completion of wsson(8). Held against "wsson help" by tests/manual.rs.

_wsson_options() {
    case $1 in
        run) echo "--config --allow-weak --verbose --keep --help" ;;
        start | restart) echo "--config --allow-weak --verbose --help" ;;
        stop) echo "--config --now --over --help" ;;
        status) echo "--config --control --json --watch --help" ;;
        reload) echo "--config --allow-weak --help" ;;
        check) echo "--config --allow-weak --bind --bus --help" ;;
        cookie) echo "--config --allow-weak --token --user --groups --time --format --verify --help" ;;
        send) echo "--config --control --token --user --group --to --all --binary --confirm --arrived --help" ;;
        online | here) echo "--config --control --json --help" ;;
        kick|revoke) echo "--config --control --json --reason --help" ;;
        join|leave) echo "--config --control --json --help" ;;
        listen) echo "--config --control --json --kinds --as --retry --help" ;;
        init) echo "--config --origin --proxy --language --server --help" ;;
        doctor) echo "--config --allow-weak --quick --help" ;;
        demo) echo "--port --help" ;;
        help | version) echo "--help" ;;
        *) echo "--config --help --version" ;;
    esac
}

_wsson() {
    local commands="run start stop restart reload status check cookie send online here kick revoke join leave listen init doctor demo help version"
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -c | --config) ((i++)) ;;
            -*) ;;
            *) command=${COMP_WORDS[i]}; break ;;
        esac
    done
    case $before in
        -c | --config) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        --format) mapfile -t COMPREPLY < <(compgen -W "js header curl url json" -- "$word"); return ;;
        --control) mapfile -t COMPREPLY < <(compgen -W "unix:// tcp://" -- "$word"); return ;;
        --proxy) mapfile -t COMPREPLY < <(compgen -W "nginx apache haproxy caddy none" -- "$word"); return ;;
        --language) mapfile -t COMPREPLY < <(compgen -W "php python node" -- "$word"); return ;;
        --server) mapfile -t COMPREPLY < <(compgen -W "tcp:// unix:// tls://" -- "$word"); return ;;
        --kinds) mapfile -t COMPREPLY < <(compgen -W "message open close online offline" -- "$word"); return ;;
        --as | --port | --origin | --reason | --group | --to | --token | --user | --time | --verify) return ;;
    esac
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_wsson_options "$command")" -- "$word")
    elif [[ -z $command || $command == help ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
    fi
}

complete -o filenames -F _wsson wsson
