//! Repetitive text that people ask for: none of it is a loop.

use super::*;

#[test]
fn rulers_tables_and_forms_are_no_loops() {
    quiet(&format!(
        "Title\n{}\ntext\n{}\n",
        "=".repeat(300),
        "-".repeat(500)
    ));
    quiet(&format!(
        "| Name |{}\n|{}\n",
        " Column |".repeat(8),
        " ----------------------- |".repeat(9)
    ));
    quiet(&lines(40, |_| "|      |      |      |      |      |".into()));
    quiet(&lines(30, |_| format!("Answer: {}", "_".repeat(60))).replace("Answer: ", ""));
    quiet(&lines(20, |_| format!("Answer: {}", "_".repeat(60))));
    quiet(&lines(9, |_| {
        "Name: ____________________ Date: __________".into()
    }));
    quiet(&lines(20, |_| "| [Name] | [Date] | [Amount] |".into()));
    quiet(&lines(20, |_| "├──────────┼──────────┼──────────┤".into()));
    quiet(&lines(9, |_| "- [Describe your duties here]".into()));
    quiet(&lines(60, |n| {
        format!("Chapter {n} {} {}", ".".repeat(90), n * 7)
    }));
    quiet(&lines(30, |_| "- [ ] ".into()));
}

#[test]
fn numbers_are_no_loops() {
    quiet(&lines(28, |_| format!("[{}],", vec!["0"; 28].join(", "))));
    quiet(&lines(12, |a| {
        (1..=12).map(|b| format!("{a} x {b} = {}\n", a * b)).collect()
    }));
    quiet(&lines(1000, |n| n.to_string()));
    quiet(&lines(500, |n| format!("{n},{},{}", n * 31 % 97, n * 17 % 89)));
    quiet(&format!("[{}]", vec!["0.0"; 384].join(", ")));
    quiet(
        &prose(900, 15)
            .bytes()
            .map(|b| char::from(b'0' + b % 10))
            .collect::<String>(),
    );
}

#[test]
fn lists_are_no_loops() {
    quiet(&lines(100, |n| format!("Item {n}: {}", prose(3, u64::from(n)))));
    quiet(&lines(100, |n| format!("{n}. Example {n}")));
    quiet(&lines(31, |n| {
        format!(
            "Day {n}: 3 sets of {n} push-ups, 20 squats, {} lunges, a plank of 60 seconds",
            n + 5
        )
    }));
    quiet(&lines(100, |n| {
        format!("INSERT INTO users (id, name) VALUES ({n}, 'user{n}');")
    }));
    quiet(&lines(60, |n| format!("[00:{n}] speaker {}: yes", n % 3)));
    quiet(&lines(12, |n| {
        format!(
            "Bottles: {} green bottles hanging on the wall, and if one should fall there are {}",
            13 - n,
            12 - n
        )
    }));
}

#[test]
fn code_is_no_loop() {
    quiet(&format!(
        "```html\n{}```\n",
        (0..30)
            .rev()
            .map(|n| format!("{}</div>\n", "  ".repeat(n)))
            .collect::<String>()
    ));
    quiet(&format!("```html\n{}```\n", "      <td></td>\n".repeat(45)));
    quiet(&format!(
        "```html\n{}```\n",
        "  <li><a href=\"#\">Link</a></li>\n".repeat(18)
    ));
    quiet(&format!("```asm\n{}```\n", "    nop\n".repeat(100)));
    quiet(&format!("```c\n{}\n```\n", "0x00, ".repeat(256)));
    quiet(&format!(
        "```json\n[{}]\n```",
        "\n  { \"x\": 0, \"y\": 0, \"visible\": true },".repeat(18)
    ));
    quiet(&format!(
        "```latex\n{}```",
        " & & & & & \\\\ \\hline\n".repeat(40)
    ));
    quiet(&format!(
        "data:image/png;base64,{}{}{}",
        prose(90, 11).replace(' ', "Q7"),
        "A".repeat(1200),
        prose(90, 12).replace(' ', "x")
    ));
    quiet(&lines(120, |n| format!("import {{ part{n} }} from './part{n}';")));
    quiet(&lines(200, |n| {
        format!("    assert_eq!(square({n}), {});", n * n)
    }));
    let path = (0..400u32)
        .map(|n| format!("C{} {} {} {} ", n * 7 % 50, n * 3 % 40, n * 11 % 60, n % 13))
        .collect::<String>();
    quiet(&format!("<path d=\"M0 0 {path}Z\"/>"));
    let arguments = format!("{{\"content\": \"{}\"}}", "    },\\n".repeat(40));
    assert_eq!(
        finish(
            lane(Channel::ToolArguments(0), None, &Settings::default()),
            &[&arguments]
        ),
        vec![]
    );
}

#[test]
fn songs_and_laughter_are_no_loops() {
    quiet(&format!("He laughed: {}!", "ha ".repeat(30)));
    quiet(&format!("{}\nhey Jude\n", "na na na nananana, ".repeat(6)));
    quiet(&"We will, we will rock you\n".repeat(5));
    let verse = |n| {
        format!(
            "{}\n{}\n",
            prose(20, n),
            "Row, row, row your boat,\nGently down the stream,\n".repeat(2)
        )
    };
    quiet(&(0..8).map(verse).collect::<String>());
    quiet(&format!("{} go", "no ".repeat(60)));
    quiet(&"very ".repeat(25));
}
