//! Every page on a phone and on a desk, in light and dark, and on a phone with everything twice as large. With
//! `PAVLOV_PICTURES=FOLDER` the pictures are kept there, to be looked at, and sheets of them for docs/feedback.

use std::path::Path;

use crate::accessible::violations;
use crate::chromium::{Browser, Page};
use crate::showcase::{Showcase, View, Who};

/// On every page, at each size: nothing is wider than the screen; on a desk in light and on a phone in dark no rule of axe-core is
/// broken.
pub(crate) fn every_page(browser: &mut Browser) {
    let folder = std::env::var_os("PAVLOV_PICTURES").map(std::path::PathBuf::from);
    let mut showcase = Showcase::new(browser);
    let mut broken = Vec::new();
    let views = std::mem::take(&mut showcase.views);
    for view in &views {
        let name = view.name;
        let page = showcase.page(view.who);
        page.screen(1280, 800, "light");
        page.open(&view.address);
        (view.act)(page);
        for (size, width, height, scheme) in [("desk", 1280, 800, "light"), ("phone", 390, 844, "dark")] {
            page.screen(width, height, scheme);
            broken.extend(too_wide(page, width).map(|what| format!("{name}, {size}: {what}")));
            if let Some(folder) = &folder {
                // On a screen as tall as the picture, so that what sticks to its edge is at the edge.
                let needed = page.eval("document.documentElement.scrollHeight").as_u64().unwrap();
                page.screen(width, u32::try_from(needed.min(1500)).unwrap(), scheme);
                std::fs::write(folder.join(format!("{name}-{size}.png")), page.picture(1500, "png")).unwrap();
                page.screen(width, height, scheme);
            }
            broken
                .extend(violations(page).into_iter().map(|what| format!("{name}, {size}, {scheme}: {what}")));
        }
        // A phone's page enlarged to 200% has half its points.
        page.screen(195, 422, "light");
        broken.extend(too_wide(page, 195).map(|what| format!("{name}, enlarged: {what}")));
    }
    if let Some(folder) = &folder {
        sheets(&mut browser.person(), folder, &views);
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

fn too_wide(page: &mut Page, width: u32) -> Option<String> {
    let wide = page.eval("document.documentElement.scrollWidth").as_u64().unwrap();
    (wide > u64::from(width)).then(|| format!("{wide} wide on a screen of {width}"))
}

/// What raters see and what managers see, on one sheet for each size.
fn sheets(page: &mut Page, folder: &Path, views: &[View]) {
    for (size, across, wide, tall) in [("desk", 3, 560, 560), ("phone", 6, 280, 700)] {
        for (whose, raters) in [("raters", true), ("managers", false)] {
            let of = views.iter().filter(|view| matches!(view.who, Who::Rater) == raters);
            let figure = |view: &View| {
                let name = view.name;
                format!("<figure><figcaption>{name}</figcaption><img src='{name}-{size}.png'></figure>")
            };
            let style = format!(
                "body {{ margin: 0; padding: 12px; background: #888; display: grid; gap: 12px; font: 16px sans-serif;
                    grid-template-columns: repeat({across}, {wide}px); align-items: start }}
                 figure {{ margin: 0 }} img {{ width: 100%; max-height: {tall}px; object-fit: cover; object-position: top; display: block }}"
            );
            let body: String = of.map(figure).collect();
            let html = folder.join("sheet.html");
            std::fs::write(&html, format!("<!doctype html><style>{style}</style>{body}")).unwrap();
            page.screen(across * (wide + 12) + 12, 800, "light");
            page.open(&format!("file://{}", html.display()));
            std::fs::write(folder.join(format!("{whose}-{size}.webp")), page.picture(8000, "webp")).unwrap();
            std::fs::remove_file(html).unwrap();
        }
    }
}
