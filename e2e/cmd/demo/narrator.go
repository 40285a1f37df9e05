package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// Escape sequences of the terminal.
const (
	bold  = "\x1b[1m"
	green = "\x1b[32m"
	dim   = "\x1b[2m"
	plain = "\x1b[0m"
)

// narrator writes the story: numbered steps, commands, and what came of them.
type narrator struct {
	out   io.Writer
	color bool
	steps int
}

// newNarrator uses colours only on a terminal, and not if the user has set
// NO_COLOR.
func newNarrator(out io.Writer, noColor string) *narrator {
	f, ok := out.(*os.File)
	color := false
	if ok && noColor == "" && os.Getenv("TERM") != "dumb" {
		info, err := f.Stat()
		color = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return &narrator{out: out, color: color}
}

// step begins the next step.
func (n *narrator) step(title string) {
	n.steps++
	fmt.Fprintf(n.out, "\n%s\n", n.paint(bold, fmt.Sprintf("%d. %s", n.steps, title)))
}

// typed shows a command as a user would type it.
func (n *narrator) typed(command string) {
	fmt.Fprintf(n.out, "   %s\n", n.paint(green, "$ "+command))
}

// showed shows what a command wrote, or a file.
func (n *narrator) showed(text string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		fmt.Fprintf(n.out, "   %s\n", n.paint(dim, strings.TrimRight(line, "\n")))
	}
}

// say says what came of it.
func (n *narrator) say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		fmt.Fprintf(n.out, "   %s\n", strings.TrimRight(line, "\n"))
	}
}

func (n *narrator) paint(color, text string) string {
	if !n.color {
		return text
	}
	return color + text + plain
}
