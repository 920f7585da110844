// Works out formulas that strangers have written.
package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"strconv"
	"time"

	"taskhost.dev/taskhost"
)

func init() {
	taskhost.Task("formulas.table", table,
		taskhost.Doc("Works out a formula of x for each value."), taskhost.TimeLimit(10*time.Second))
}

func main() {}

// TableArgs are a formula, such as x*x + rate, the values of x, and what else has a name in it.
type TableArgs struct {
	Formula string             `json:"formula"`
	Xs      []float64          `json:"xs"`
	Names   map[string]float64 `json:"names" default:"{}"`
}

func table(ctx *taskhost.Context, args TableArgs) ([]float64, error) {
	formula, err := parser.ParseExpr(args.Formula)
	if err != nil {
		return nil, taskhost.Errorf("SyntaxError", "%q: %w", args.Formula, err)
	}
	names := map[string]float64{"pi": math.Pi, "e": math.E}
	for name, value := range args.Names {
		names[name] = value
	}
	values := make([]float64, len(args.Xs))
	for i, x := range args.Xs {
		names["x"] = x
		value, err := evaluate(formula, names)
		if err != nil {
			return nil, err
		}
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return nil, taskhost.Errorf("ArithmeticError", "%q has no value at x = %v", args.Formula, x)
		}
		values[i] = value
		ctx.Progress(i+1, len(args.Xs))
	}
	return values, nil
}

var functions = map[string]func(float64) float64{
	"abs": math.Abs, "sqrt": math.Sqrt, "exp": math.Exp, "log": math.Log, "sin": math.Sin, "cos": math.Cos,
}

func evaluate(formula ast.Expr, names map[string]float64) (float64, error) {
	switch part := formula.(type) {
	case *ast.ParenExpr:
		return evaluate(part.X, names)
	case *ast.BasicLit:
		if part.Kind == token.INT || part.Kind == token.FLOAT {
			return strconv.ParseFloat(part.Value, 64)
		}
	case *ast.Ident:
		if value, ok := names[part.Name]; ok {
			return value, nil
		}
		return 0, taskhost.Errorf("NameError", "name '%s' is not defined", part.Name)
	case *ast.UnaryExpr:
		value, err := evaluate(part.X, names)
		if part.Op == token.SUB {
			value = -value
		}
		return value, err
	case *ast.BinaryExpr:
		return binary(part, names)
	case *ast.CallExpr:
		name, _ := part.Fun.(*ast.Ident)
		if name == nil || functions[name.Name] == nil || len(part.Args) != 1 {
			break
		}
		value, err := evaluate(part.Args[0], names)
		return functions[name.Name](value), err
	}
	return 0, taskhost.Errorf("SyntaxError", "a formula is made of numbers, names, + - * / and functions, and not of %T", formula)
}

func binary(part *ast.BinaryExpr, names map[string]float64) (float64, error) {
	x, err := evaluate(part.X, names)
	if err != nil {
		return 0, err
	}
	y, err := evaluate(part.Y, names)
	if err != nil {
		return 0, err
	}
	switch part.Op {
	case token.ADD:
		return x + y, nil
	case token.SUB:
		return x - y, nil
	case token.MUL:
		return x * y, nil
	case token.QUO:
		return x / y, nil
	}
	return 0, taskhost.Errorf("SyntaxError", "'%v' is not known in formulas", part.Op)
}
