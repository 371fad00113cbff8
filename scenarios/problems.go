package scenarios

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	// File is the name of the file as the user knows it. Line and Column count from 1, columns in characters; both are
	// 0 where the file itself could not be read.
	File         string
	Line, Column int
	// Message says what is wrong and, where that is known, how to put it right.
	Message string
	// Hint is a name that is close to the wrong one; it may be empty.
	Hint string
	// Source is the line itself, for the caret; empty where there is none.
	Source string
}

// spot is the place of a problem, to compare.
type spot struct {
	file         string
	line, column int
}

func (p Problem) place() spot { return spot{p.File, p.Line, p.Column} }

// maxSourceWidth is how much of a long source line is shown, in characters.
const maxSourceWidth = 120

// Error prints the problem over one to three lines: place, message and hint; the source line; a caret below it.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": " + p.Message)
	if p.Hint != "" {
		fmt.Fprintf(&b, "; did you mean %q?", p.Hint)
	}
	if p.Line == 0 || strings.TrimSpace(p.Source) == "" {
		return b.String()
	}
	line, column := []rune(p.Source), max(p.Column-1, 0)
	if column >= maxSourceWidth {
		cut := min(column-maxSourceWidth/2, len(line))
		line, column = line[cut:], column-cut
	}
	line = line[:min(len(line), maxSourceWidth)]
	for i, r := range line {
		if !unicode.IsPrint(r) { // tabs would shift the caret, control characters would reach the terminal
			line[i] = ' '
		}
	}
	number := fmt.Sprintf("%5d", p.Line)
	fmt.Fprintf(&b, "\n%s | %s\n%s | %s^", number, strings.TrimRight(string(line), " "),
		strings.Repeat(" ", len(number)), strings.Repeat(" ", min(column, len(line))))
	return b.String()
}

// Problems is everything that is wrong with the files of one Load, sorted by file and place. It is an error.
type Problems []Problem

// Error prints every problem, one below the other.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted puts problems in order and drops those that two files share because both use a third.
func sorted(problems []Problem) Problems {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(problems)
}

// closest is the candidate that a misspelt name most likely meant, or "": at most a third of its letters may differ.
func closest(name string, candidates []string) string {
	best, bestDistance := "", max(1, utf8.RuneCountInString(name)/3)+1
	if len(name) > 100 { // nobody mistypes that; and the distance costs the product of both lengths
		return ""
	}
	for _, candidate := range slices.Sorted(slices.Values(candidates)) {
		if d := distance(strings.ToLower(name), strings.ToLower(candidate)); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	if best == name {
		return ""
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with a neighbour to turn a into b.
func distance(a, b string) int {
	from, to := []rune(a), []rune(b)
	before, last, row := make([]int, len(to)+1), make([]int, len(to)+1), make([]int, len(to)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(from); i++ {
		row[0] = i
		for j := 1; j <= len(to); j++ {
			change := 1
			if from[i-1] == to[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && from[i-1] == to[j-2] && from[i-2] == to[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(to)]
}
