package main

import (
	_ "github.com/gravitational/teleport/lib/config"
	_ "github.com/gravitational/teleport/lib/service"
)

func main() {}
