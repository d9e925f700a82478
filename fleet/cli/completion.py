"""fleet completion: the few lines that a shell needs to ask fleet what can come next."""

from __future__ import annotations

from typing import Annotated

import typer

# Each asks `fleet __complete SHELL WORD…` and falls back to file names when nothing comes.
SCRIPTS = {
    "bash": """\
_fleet() {
    mapfile -t COMPREPLY < <("$1" __complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    return 0
}
complete -o default -F _fleet fleet
""",
    "zsh": """\
#compdef fleet
_fleet() {
    local -a found more
    found=("${(@f)$("$words[1]" __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    [[ "$found[1]" == *= ]] && more=(-S '')
    if [[ -n "$found" ]]; then
        _describe fleet found "${(@)more}"
    else
        _files
    fi
}
if [[ "$funcstack[1]" == _fleet ]]; then
    _fleet "$@"
else
    compdef _fleet fleet
fi
""",
    "fish": """\
function __fleet_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] __complete fish $words[2..] 2>/dev/null
end
complete -c fleet -f -a '(__fleet_complete)'
complete -c fleet -s m -l manifest -r -F
complete -c fleet -l html -r -F
complete -c fleet -s o -l out -r -F
""",
}


def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="which shell")],
) -> None:
    """
    What a shell needs to complete commands, options, pipelines and processes.

      fleet completion bash | sudo tee /etc/bash_completion.d/fleet
      fleet completion zsh > ~/.zfunc/_fleet
      fleet completion fish > ~/.config/fish/completions/fleet.fish

    They ask fleet at each Tab, so they fit every version of it.
    """
    from fleet.cli import output

    if shell not in SCRIPTS:
        raise typer.BadParameter(f"no shell {shell!r}; there are: {', '.join(SCRIPTS)}")
    output.say(SCRIPTS[shell].rstrip())
