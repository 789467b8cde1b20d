"""`keyvault completion bash|zsh|fish`: what the shell needs to complete our words.

Made from the table of commands, so that it cannot name one that is gone. Names
of keys are not completed: a shell that asks the server at each Tab would leave
reads in the log that nobody made.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyvault.cli.codes import Exit
from keyvault.cli.main import COMMANDS
from keyvault.launcher.arguments import Arguments

WORDS = {
    "agents": ("list",),
    "apply": ("--reason", "--ticket", "--yes", "--wait", "--timeout", "--json"),
    "audit": ("verify", "export", "search"),
    "completion": ("bash", "zsh", "fish"),
    "demo": ("code", "list"),
    "get": ("--field", "--show", "--json"),
    "import": ("dotenv", "csv", "openbao", "aws-sm"),
    "login": ("--open",),
    "plan": ("--json",),
    "request": ("create", "list", "show", "withdraw"),
    "rotate": ("--reason", "--deploy-id", "--comment", "--ticket", "--wait", "--timeout", "--json"),
    "run": ("--key", "--on-change", "--grace", "--keep-identity", "--"),
    "template": ("--out", "--show", "--follow", "--pid-file"),
    "up": ("--demo", "--data", "--port", "--open"),
}

_BASH = """_keyvault() {{
  local here=${{COMP_WORDS[COMP_CWORD]}} words
  if [ "$COMP_CWORD" -eq 1 ]; then words="{commands}"; else
    case ${{COMP_WORDS[1]}} in
{cases}
      *) words="" ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$here"))
}}
complete -o default -F _keyvault keyvault
"""
_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def run(argv: Sequence[str]) -> int:
    """Print the script. Raises Stop."""
    parser = Arguments(
        prog="keyvault completion",
        description="Print a script for your shell, for example: source <(keyvault completion bash)",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    shell = parser.parse_args(argv).shell
    script = {"bash": _bash, "zsh": lambda: _ZSH + _bash(), "fish": _fish}[shell]()
    print(script, end="")
    return Exit.DONE


def _bash() -> str:
    cases = "\n".join(
        f'      {name}) words="{" ".join(words)}" ;;' for name, words in WORDS.items()
    )
    return _BASH.format(commands=" ".join(COMMANDS), cases=cases)


def _fish() -> str:
    lines = [
        f"complete -c keyvault -n __fish_use_subcommand -f -a {name} -d '{_quoted(command.help)}'"
        for name, command in COMMANDS.items()
    ]
    for name, words in WORDS.items():
        listed = " ".join(words)
        lines.append(f"complete -c keyvault -n '__fish_seen_subcommand_from {name}' -a '{listed}'")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
