// Command rollcall is a Machine ID agent for Teleport: it joins a cluster as a
// bot, keeps its identity fresh, and writes credentials for programs.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
)

func main() {
	// Whatever this process makes is nobody else's, even where a mode is
	// forgotten.
	syscall.Umask(0o077)
	os.Exit(run(context.Background(), os.Args[1:], environment{Getenv: os.Getenv, Stdout: os.Stdout, Stderr: os.Stderr}))
}

// environment is the process's surroundings, passed in so that tests can have
// their own.
type environment struct {
	Getenv         func(string) string
	Stdout, Stderr io.Writer
}

// run parses the arguments, does what they say and returns the exit code.
func run(ctx context.Context, args []string, env environment) int {
	root := newRootCommand(env)
	root.SetArgs(args)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var shown *shownError
	if !asShown(err, &shown) {
		fmt.Fprintln(env.Stderr, "rollcall:", err)
	}
	return exitCodeOf(cmd, err)
}
