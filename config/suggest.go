package config

import (
	"fmt"
	"strings"
)

// Nearest returns the candidate that word is most likely a slip of, or "". The
// command line's words are mistyped as the file's are.
func Nearest(word string, candidates []string) string { return nearest(word, candidates) }

// nearest returns the candidate that word is most likely a slip of, or "".
// Case, hyphens and underscores don't count: appName is near to app_name.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", len(word)
	plain := plainWord(word)
	for _, candidate := range candidates {
		target := plainWord(candidate)
		distance := editDistance(plain, target)
		limit := max(1, min(len(plain), len(target))/3)
		if distance <= limit && distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	return best
}

// didYouMean returns a question for nearest's answer, or "".
func didYouMean(word string, candidates []string) string {
	near := nearest(word, candidates)
	if near == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", near)
}

func plainWord(word string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(word))
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbours between a and b.
func editDistance(a, b string) int {
	// Nobody mistypes a word this long into one of ours, and the cost is
	// quadratic.
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return max(len(a), len(b))
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
