//! Narrowing a list to what holds a text somewhere.

use entities::{Backend, query::*};

/// Rows of which one of the columns holds `text`, whatever its case; on SQLite the case of ASCII alone is folded.
pub(crate) fn holding<C: ColumnTrait>(backend: Backend, columns: &[C], text: &str) -> Condition {
    let (sql, folded) = match backend {
        Backend::Postgres => ("lower($1) like $2 escape '!'", text.to_lowercase()),
        Backend::Sqlite => ("lower(?) like ? escape '!'", text.to_ascii_lowercase()),
    };
    let mut pattern = String::from("%");
    for letter in folded.chars() {
        // What stands for others in a pattern stands for itself here.
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    columns.iter().fold(Condition::any(), |any, column| {
        let parts = [
            Expr::col(column.as_column_ref()),
            Expr::val(pattern.clone()),
        ];
        any.add(Expr::cust_with_exprs(sql, parts))
    })
}
