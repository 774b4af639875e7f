#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The kernel's command line for POSIX shells: read it into $cmdline (cmdline_read), ask for options (cmdline_value,
# cmdline_values, cmdline_has, cmdline_true), and translate what others spell differently (cmdline_normalise). To be
# sourced; all that is changed outside has `cmdline` in its name. A name may have - for _ and the other way round, as for
# the kernel (parameq() in kernel/params.c) and systemd (proc_cmdline_key_streq()).

# cmdline_read: sets $cmdline to the command line, on one line.
cmdline_read() {
    cmdline=
    while IFS= read -r cmdline_line || [ -n "$cmdline_line" ]; do
        cmdline="$cmdline${cmdline:+ }$cmdline_line"
    done < /proc/cmdline
}

# cmdline_next: takes the next word off $cmdline_rest; false at the end. $cmdline_word is the word as written,
# $cmdline_bare the same without its quotes, $cmdline_name and $cmdline_given are what is before and after the first =.
# A double quote begins or ends quoting wherever it is (next_arg() in the kernel's lib/cmdline.c); there is no escape.
cmdline_next() {
    cmdline_rest=${cmdline_rest#"${cmdline_rest%%[![:space:]]*}"}
    [ -n "$cmdline_rest" ] || return 1
    cmdline_word='' cmdline_bare='' cmdline_quoted=no
    while :; do
        case $cmdline_quoted in
            yes) cmdline_piece=${cmdline_rest%%\"*} ;;
            *) cmdline_piece=${cmdline_rest%%[\"[:space:]]*} ;;
        esac
        cmdline_word=$cmdline_word$cmdline_piece
        cmdline_bare=$cmdline_bare$cmdline_piece
        cmdline_rest=${cmdline_rest#"$cmdline_piece"}
        case $cmdline_rest in
            \"*) ;;
            *) break ;;
        esac
        cmdline_word=$cmdline_word\"
        cmdline_rest=${cmdline_rest#?}
        case $cmdline_quoted in
            yes) cmdline_quoted=no ;;
            *) cmdline_quoted=yes ;;
        esac
    done
    cmdline_name=${cmdline_bare%%=*}
    # No name has a single quote, and systemd takes them away (EXTRACT_UNQUOTE): an option must not hide behind one.
    while :; do
        case $cmdline_name in *\'*) cmdline_name=${cmdline_name%%\'*}${cmdline_name#*\'} ;; *) break ;; esac
    done
    cmdline_given=
    ! cmdline_has_value || cmdline_given=${cmdline_bare#*=}
}

# cmdline_has_value: whether the word at hand has a =.
cmdline_has_value() {
    case $cmdline_bare in *=*) return 0 ;; esac
    return 1
}

# cmdline_is NAME: whether the word at hand is the option NAME.
cmdline_is() {
    [ "$cmdline_name" != "$1" ] || return 0
    case $1 in *[-_]*) ;; *) return 1 ;; esac
    cmdline_one=$1 cmdline_other=$cmdline_name
    while :; do
        case $cmdline_one in *-*) cmdline_one=${cmdline_one%%-*}_${cmdline_one#*-} ;; *) break ;; esac
    done
    while :; do
        case $cmdline_other in *-*) cmdline_other=${cmdline_other%%-*}_${cmdline_other#*-} ;; *) break ;; esac
    done
    [ "$cmdline_one" = "$cmdline_other" ]
}

# cmdline_values NAME: prints each value of NAME=, one a line; false where there is none.
cmdline_values() {
    cmdline_rest=$cmdline cmdline_found=no
    while cmdline_next; do
        if ! cmdline_has_value || ! cmdline_is "$1"; then
            continue
        fi
        cmdline_found=yes
        printf '%s\n' "$cmdline_given"
    done
    [ "$cmdline_found" = yes ]
}

# cmdline_value NAME: prints the last value of NAME=; false where it is not given.
cmdline_value() {
    cmdline_rest=$cmdline cmdline_found=no
    while cmdline_next; do
        if ! cmdline_has_value || ! cmdline_is "$1"; then
            continue
        fi
        cmdline_found=yes cmdline_last=$cmdline_given
    done
    [ "$cmdline_found" = no ] || printf '%s\n' "$cmdline_last"
    [ "$cmdline_found" = yes ]
}

# cmdline_last WORD…: prints that of the words (`ro`, `rd.break=mount`) which is there just like that, the last where several
# are; false where none is.
cmdline_last() {
    cmdline_rest=$cmdline cmdline_found=
    while cmdline_next; do
        for cmdline_each; do
            [ "$cmdline_bare" != "$cmdline_each" ] || cmdline_found=$cmdline_each
        done
    done
    [ -z "$cmdline_found" ] || printf '%s\n' "$cmdline_found"
    [ -n "$cmdline_found" ]
}

# cmdline_has WORD: whether WORD is there just like that.
cmdline_has() {
    cmdline_last "$1" > /dev/null
}

# cmdline_on: whether the word at hand, given as a boolean, is true (systemd.syntax(7)); alone it is.
cmdline_on() {
    cmdline_has_value || return 0
    case $cmdline_given in
        1 | [yY] | [yY][eE][sS] | [tT] | [tT][rR][uU][eE] | [oO][nN]) return 0 ;;
    esac
    return 1
}

# cmdline_true NAME [DEFAULT]: whether the boolean option NAME is true, the last counts; without one, DEFAULT (no).
cmdline_true() {
    cmdline_rest=$cmdline cmdline_last=${2:-no}
    while cmdline_next; do
        cmdline_is "$1" || continue
        if cmdline_on; then cmdline_last=yes; else cmdline_last=no; fi
    done
    [ "$cmdline_last" = yes ]
}

# cmdline_normalise: makes $cmdline what it is in systemd's and the kernel's own spelling, by the table of the image
# (cmdline-table, made at build time: cmdline_translate and cmdline_translate_late). A word that the table knows is
# replaced where it stands, so the last of several still counts. Values of other options are filled in when those are
# translated themselves, hence the second pass.
cmdline_normalise() {
    cmdline_pass cmdline_translate
    cmdline_pass cmdline_translate_late
}

cmdline_pass() {
    cmdline_rest=$cmdline cmdline_new=
    while cmdline_next; do
        "$1" || cmdline_new="$cmdline_new${cmdline_new:+ }$cmdline_word"
    done
    cmdline=$cmdline_new
}

# cmdline_fits TEXT…: whether the value at hand is these texts, with something between each two of them, which becomes
# $cmdline_1, $cmdline_2 …: each the shortest that there is. More than nine are not needed.
cmdline_fits() {
    cmdline_has_value || return 1
    case $cmdline_given in "$1"*) ;; *) return 1 ;; esac
    cmdline_left=${cmdline_given#"$1"} cmdline_count=0
    shift
    if [ $# -eq 0 ] && [ -n "$cmdline_left" ]; then
        return 1
    fi
    while [ $# -gt 0 ]; do
        cmdline_count=$((cmdline_count + 1))
        if [ $# -gt 1 ]; then
            case $cmdline_left in *"$1"*) ;; *) return 1 ;; esac
            cmdline_piece=${cmdline_left%%"$1"*}
            cmdline_left=${cmdline_left#"$cmdline_piece$1"}
        else
            case $cmdline_left in *"$1") ;; *) return 1 ;; esac
            cmdline_piece=${cmdline_left%"$1"}
        fi
        [ -n "$cmdline_piece" ] || return 1
        eval "cmdline_$cmdline_count=\$cmdline_piece"
        shift
    done
}

# cmdline_put TEXT: adds an option to the new command line, in quotes where it needs them.
cmdline_put() {
    case $1 in
        *[[:space:]\']*) cmdline_new="$cmdline_new${cmdline_new:+ }\"$1\"" ;;
        *) cmdline_new="$cmdline_new${cmdline_new:+ }$1" ;;
    esac
}

# cmdline_put_each NAME BEFORE AFTER: adds an option for each value of the option NAME (what is before its first =),
# BEFORE and AFTER around it; false where there is none.
cmdline_put_each() {
    cmdline_each=$(cmdline_values "$1") || return 1
    while [ -n "$cmdline_each" ]; do
        cmdline_piece=${cmdline_each%%"$cmdline_newline"*}
        cmdline_put "$2${cmdline_piece%%=*}$3"
        cmdline_each=${cmdline_each#"$cmdline_piece"}
        cmdline_each=${cmdline_each#"$cmdline_newline"}
    done
}
cmdline_newline='
'

# cmdline_note TEXT: tells what was done with the word at hand, in the kernel's log and so in the journal.
cmdline_note() {
    printf '<5>preroot: %s on the command line: %s\n' "$cmdline_bare" "$1" 2> /dev/null > /dev/kmsg || :
}

# cmdline_install: translates the command line where the table has something to do, and puts the result where everybody
# reads it: over /proc/cmdline (which preroot-cmdline.service, or the last step, uncovers for the real root). Programs of
# the distribution, kmod included, have no other place for it that they all know.
cmdline_install() {
    cmdline_read
    cmdline_is_foreign "$cmdline" || return 0
    cmdline_before=$cmdline
    cmdline_normalise
    [ "$cmdline" != "$cmdline_before" ] || return 0
    if printf '%s\n' "$cmdline" > /etc/preroot/cmdline && mount --bind /etc/preroot/cmdline /proc/cmdline; then
        return 0
    fi
    printf '<3>preroot: the command line could not be translated\n' 2> /dev/null > /dev/kmsg || :
}
