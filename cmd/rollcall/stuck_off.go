//go:build !rollcall_stuck

package main

import "rollcall/destination"

// stuckAfter 0: outputs know by themselves how long an attempt may take.
const stuckAfter = 0

// stickable does nothing, but for the build that tests the watchdog.
func stickable(place destination.Destination) destination.Destination { return place }
