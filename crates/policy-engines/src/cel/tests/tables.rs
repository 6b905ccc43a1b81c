//! Values and errors.

use super::*;

#[test]
fn values() {
    let data = json!({"a": 1, "b": [1, 2, 3], "c": {"d": "text"}, "e": 1.5, "n": null});
    let table: &[(&str, Json)] = &[
        ("1 + 2 * 3", json!(7)),
        ("-(1 - 2)", json!(1)),
        ("7 / 2", json!(3)),
        ("-7 % 3", json!(-1)),
        ("2u * 3u", json!(6)),
        ("1.5 + 1.5", json!(3.0)),
        ("'a' + \"b\"", json!("ab")),
        ("b'\\x01\\xff' == b'\\001\\377'", json!(true)),
        ("r'\\d' == '\\\\d'", json!(true)),
        ("[1, 2] + [3]", json!([1, 2, 3])),
        ("{'a': 1}.a", json!(1)),
        ("true ? 1 : 2", json!(1)),
        ("false || true && !false", json!(true)),
        ("dyn(1) == 1.0", json!(true)),
        ("1 < 1.5", json!(true)),
        ("object.a + 1", json!(2)),
        ("object.b[1]", json!(2)),
        ("object.c.d", json!("text")),
        ("has(object.c.d)", json!(true)),
        ("has(object.c.x)", json!(false)),
        ("object.n == null", json!(true)),
        ("object.b.all(x, x > 0)", json!(true)),
        ("object.b.exists(x, x == 3)", json!(true)),
        ("object.b.exists_one(x, x > 2)", json!(true)),
        ("object.b.map(x, x * 2)", json!([2, 4, 6])),
        ("object.b.map(x, x > 1, x * 2)", json!([4, 6])),
        ("object.b.filter(x, x > 1)", json!([2, 3])),
        ("object.c.map(k, k)", json!(["d"])),
        ("object.b.all(i, v, v == i + 1)", json!(true)),
        ("object.b.transformList(i, v, i * v)", json!([0, 2, 6])),
        ("{'x': 1}.transformMap(k, v, v + 1)", json!({"x": 2})),
        ("{'x': 1}.transformMapEntry(k, v, {k + k: v})", json!({"xx": 1})),
        ("[3, 1, 2].sort()", json!([1, 2, 3])),
        ("['bb', 'a'].sortBy(x, x.size())", json!(["a", "bb"])),
        ("[[1], [2, 3]].flatten()", json!([1, 2, 3])),
        ("lists.range(3)", json!([0, 1, 2])),
        ("[1, 1, 2].distinct()", json!([1, 2])),
        ("[1, 2, 3].slice(1, 3)", json!([2, 3])),
        ("[1, 2].reverse()", json!([2, 1])),
        ("[1, 2, 3].sum()", json!(6)),
        ("[2, 1].isSorted()", json!(false)),
        ("[1, 5, 2].max()", json!(5)),
        ("[1, 5, 2].indexOf(5)", json!(1)),
        ("sets.contains([1, 2], [2])", json!(true)),
        ("sets.equivalent([1, 2], [2, 1, 1])", json!(true)),
        ("sets.intersects([1], [2])", json!(false)),
        ("object.?c.?d.orValue('none')", json!("text")),
        ("object.?x.?y.orValue('none')", json!("none")),
        ("object.?x.hasValue()", json!(false)),
        ("object.b[?9].orValue(0)", json!(0)),
        ("optional.of(1).optMap(x, x + 1).value()", json!(2)),
        ("[?optional.none(), 1]", json!([1])),
        ("{?'a': optional.of(1)}", json!({"a": 1})),
        ("'hello'.charAt(1)", json!("e")),
        ("'hello'.substring(1, 3)", json!("el")),
        ("'a,b'.split(',')", json!(["a", "b"])),
        ("['a', 'b'].join('-')", json!("a-b")),
        ("'hello'.replace('l', 'L', 1)", json!("heLlo")),
        ("'hello'.indexOf('l')", json!(2)),
        ("'hello'.lastIndexOf('l')", json!(3)),
        ("' x '.trim()", json!("x")),
        ("'%s has %d of %.2f: %s'.format(['x', 3, 1234.5, [1, 2]])", json!("x has 3 of 1,234.50: [1, 2]")),
        ("'abc123'.matches('^[a-z]+\\\\d+$')", json!(true)),
        ("'abc 123'.find('[0-9]+')", json!("123")),
        ("'a1b2'.findAll('[0-9]')", json!(["1", "2"])),
        ("duration('1h30m').getMinutes()", json!(90)),
        ("string(duration('1500ms'))", json!("1.5s")),
        ("timestamp('2024-02-29T12:30:45Z').getFullYear()", json!(2024)),
        ("timestamp('2024-02-29T12:30:45Z').getDayOfYear()", json!(59)),
        ("timestamp('2024-02-29T23:30:00Z').getHours('+02:00')", json!(1)),
        ("string(timestamp('2024-02-29T12:30:45.500Z') + duration('1s'))", json!("2024-02-29T12:30:46.5Z")),
        (
            "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
            json!(true),
        ),
        ("int('42') + int(1.9) + int(2u)", json!(45)),
        ("double('1.5')", json!(1.5)),
        ("string(1e6)", json!("1e+06")),
        ("bool('true')", json!(true)),
        ("type(1) == int", json!(true)),
        ("type([]) == list", json!(true)),
        ("type(null)", json!("<type null_type>")),
        ("quantity('1.5Gi').isGreaterThan(quantity('1G'))", json!(true)),
        ("quantity('50k').add(20).asInteger()", json!(50020)),
        ("isQuantity('x')", json!(false)),
        ("quantity('0.5').isInteger()", json!(false)),
        ("semver('1.2.3').isLessThan(semver('1.10.0'))", json!(true)),
        ("semver('v1.02', true).minor()", json!(2)),
        ("isSemver('1.2')", json!(false)),
        ("ip('10.0.0.1').family()", json!(4)),
        ("ip('::1').isLoopback()", json!(true)),
        ("isIP('1.2.3')", json!(false)),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3')", json!(true)),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", json!(true)),
        ("string(cidr('10.1.2.3/8').masked())", json!("10.0.0.0/8")),
        ("url('https://example.com:8080/a%20b?x=1&x=2').getPort()", json!("8080")),
        ("url('https://example.com:8080/a%20b?x=1&x=2').getQuery()['x']", json!(["1", "2"])),
        ("url('https://[::1]:80/').getHostname()", json!("::1")),
        ("isURL('/path')", json!(true)),
        ("isURL('not a url')", json!(false)),
        ("format.dns1123Label().validate('ok-1').hasValue()", json!(false)),
        ("format.dns1123Label().validate('Not ok').hasValue()", json!(true)),
        ("format.named('nothing').hasValue()", json!(false)),
        ("strings.quote('a\"b')", json!("\"a\\\"b\"")),
        // Errors that the other side of a logical operator makes up for.
        ("object.x == 1 || true", json!(true)),
        ("false && object.x == 1", json!(false)),
        ("object.b.exists(x, object.y == x || x == 3)", json!(true)),
        ("1 in object.b", json!(true)),
        ("'d' in object.c", json!(true)),
        ("dyn(1.0) in [1, 2]", json!(true)),
    ];
    let wrong = |(source, expected): &&(&str, Json)| evaluated(source, &data).0 != Ok(expected.clone());
    let wrong: Vec<_> =
        table.iter().filter(wrong).map(|(source, _)| (source, evaluated(source, &data).0)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn errors_at_run_time() {
    let data = json!({"a": 1, "b": [1], "s": "x"});
    let table = [
        ("object.x", "no such key: x"),
        ("object.b[5]", "index out of bounds: 5"),
        ("1 / 0 == object.a", "division by zero"),
        ("1 % 0 == object.a", "modulus by zero"),
        ("9223372036854775807 + object.a", "integer overflow"),
        ("object.a + object.s", "no such overload"),
        ("object.a.b", "no such key: b"),
        ("int(object.s)", "type conversion error from 'string' to 'int'"),
        ("optional.none().value()", "optional.none() dereference"),
        (
            "quantity(object.s)",
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("object.s.substring(5)", "index out of range: 5"),
        ("[1, 2].slice(1, 9)", "cannot slice(1, 9), list is length 2"),
        ("lists.range(2000000).size()", "operation cancelled: actual cost limit exceeded"),
    ];
    for (source, expected) in table {
        assert_eq!(evaluated(source, &data).0, Err(expected.to_owned()), "{source}");
    }
}

#[test]
fn errors_at_compile_time() {
    let table = [
        ("x", "ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n | x\n | ^"),
        (
            "1 + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
        ),
        (
            "'a'.size(1)",
            "ERROR: <input>:1:9: found no matching overload for 'size' applied to 'string.(int)'\n | 'a'.size(1)\n | ........^",
        ),
        (
            "nothing(1)",
            "ERROR: <input>:1:8: undeclared reference to 'nothing' (in container '')\n | nothing(1)\n | .......^",
        ),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        ("true && 1", "ERROR: <input>:1:9: expected type 'bool' but found 'int'\n | true && 1\n | ........^"),
        ("duration('x')", "ERROR: <input>:1:10: invalid duration argument\n | duration('x')\n | .........^"),
        (
            "'a'.matches('(')",
            "ERROR: <input>:1:13: invalid matches argument\n | 'a'.matches('(')\n | ............^",
        ),
        (
            "1.all(x, true)",
            "ERROR: <input>:1:1: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | 1.all(x, true)\n | ^",
        ),
        (
            "[1].all(1, true)",
            "ERROR: <input>:1:9: argument must be a simple name\n | [1].all(1, true)\n | ........^",
        ),
        ("has(1)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(1)\n | ....^"),
        ("'a'.b", "ERROR: <input>:1:4: type 'string' does not support field selection\n | 'a'.b\n | ...^"),
    ];
    for (source, expected) in table {
        assert_eq!(
            evaluated(source, &Json::Null).0,
            Err(format!("compilation failed: {expected}")),
            "{source}"
        );
    }
}
