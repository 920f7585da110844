package main

import (
	"errors"
	"testing"

	"taskhost.dev/taskhost"
)

func TestFormulasAreWorkedOut(t *testing.T) {
	ctx := taskhost.NewContext("id", "formulas.table", 0)
	for formula, expected := range map[string]float64{"x*x + 1": 5, "-(x - rate)/2": -0.75, "sqrt(2*x)*e/e": 2} {
		values, err := table(ctx, TableArgs{formula, []float64{2}, map[string]float64{"rate": 0.5}})
		if err != nil || values[0] != expected {
			t.Error(formula, values, err)
		}
	}
}

func TestWhatIsNoFormulaIsAnError(t *testing.T) {
	ctx := taskhost.NewContext("id", "formulas.table", 0)
	for formula, class := range map[string]string{
		"x +": "SyntaxError", "y": "NameError", "1/(x-2)": "ArithmeticError", "x % 2": "SyntaxError", "os.Exit(1)": "SyntaxError",
	} {
		var failed *taskhost.Error
		if _, err := table(ctx, TableArgs{formula, []float64{2}, nil}); !errors.As(err, &failed) || failed.Class() != class {
			t.Error(formula, err)
		}
	}
}
