// The scripts by which bash, zsh and fish complete our command line. They know nothing of it: all answers come from `__complete`.
#include "base/strings.hpp"
#include "cli/commands.hpp"

namespace caisson::cli {

namespace {

// bash splits words at COMP_WORDBREAKS ("=" and ":"); we need them as they will reach the program, and answer what follows the last split.
constexpr std::string_view bash_script = R"SCRIPT(# bash completion for caisson: made by `caisson completion bash`
_caisson() {
  local rest="${COMP_LINE:0:COMP_POINT}" piece blanks current begun line value mask i
  local -a words=() answer=()
  for ((i = 0; i <= COMP_CWORD; i++)); do
    blanks="${rest%%[![:space:]]*}"
    rest="${rest#"$blanks"}"
    piece="${COMP_WORDS[i]}"
    if ((i == COMP_CWORD)); then piece="$rest"; else rest="${rest#"$piece"}"; fi
    if ((i == 0)) || [[ -n $blanks ]]; then words+=("$piece"); else words[-1]+="$piece"; fi
  done
  mapfile -t answer < <("${words[0]/#\~/$HOME}" __complete "${words[@]:1}" 2>/dev/null)
  COMPREPLY=()
  ((${#answer[@]} > 0)) || return
  mask="${answer[-1]#:}"
  unset 'answer[-1]'
  current="${words[-1]}"
  if [[ $current == -*=* ]]; then current="${current#*=}"; fi
  begun="${current%"${current##*[=:]}"}"
  for line in "${answer[@]}"; do
    value="${line%%$'\t'*}"
    if [[ $value == "$current"* ]]; then COMPREPLY+=("$(printf %q "${value#"$begun"}")"); fi
  done
  if ((mask & 2)); then compopt -o nospace; fi
  if ((${#COMPREPLY[@]} == 0 && !(mask & 4))); then compopt -o default; fi
}
complete -F _caisson caisson
)SCRIPT";

constexpr std::string_view zsh_script = R"SCRIPT(#compdef caisson
# zsh completion for caisson: made by `caisson completion zsh`
_caisson() {
  local -a answer values suffix
  local line value mask
  answer=("${(@f)$(${(Q)words[1]} __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
  mask="${answer[-1]#:}"
  [[ $mask == <-> ]] || return 1
  answer[-1]=()
  if [[ $PREFIX == -*=* ]]; then compset -P 1 '*='; fi
  for line in "${answer[@]}"; do
    value="${line%%$'\t'*}"
    [[ -n $value ]] || continue
    if [[ $line == *$'\t'* ]]; then values+=("${value//:/\\:}:${line#*$'\t'}"); else values+=("${value//:/\\:}"); fi
  done
  if ((mask & 2)); then suffix=(-S ''); fi
  if ((${#values} > 0)); then
    _describe -t values value values "${suffix[@]}"
  elif ((!(mask & 4))); then
    _files
  fi
}
if [[ $funcstack[1] == _caisson ]]; then _caisson "$@"; else compdef _caisson caisson; fi
)SCRIPT";

constexpr std::string_view fish_script = R"SCRIPT(# fish completion for caisson: made by `caisson completion fish`
function __caisson_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l answer ($program __complete $words "$current" 2>/dev/null)
    set -l mask (string replace ':' '' -- $answer[-1])
    set -e answer[-1]
    set -l begun (string match -r -- '^-[^=]*=' "$current")
    for line in $answer
        echo "$begun$line"
    end
    if test (count $answer) -eq 0; and test "$mask" -lt 4
        __fish_complete_path (string replace -r -- '^-[^=]*=' '' "$current")
    end
end
complete -c caisson -f -a '(__caisson_complete)'
)SCRIPT";

}  // namespace

Result<int> print_completion_script(Session& session, const Invocation& invocation) {
  const std::string& shell = invocation.word(0);
  std::string_view script = shell == "bash" ? bash_script : shell == "zsh" ? zsh_script : shell == "fish" ? fish_script : "";
  if (script.empty()) return Error(ErrorKind::invalid, concat("no completion for the shell ", shell)).with_hint("there is one for bash, zsh and fish");
  session.out().write(script);
  return 0;
}

}  // namespace caisson::cli
