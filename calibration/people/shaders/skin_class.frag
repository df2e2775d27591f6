// Class of the nearest surface: 1 face, 2 other skin, 7 cloth. The face ends below the hairline on the forehead.
uniform float face_top;
out vec4 class_out;
void main() {
    float k = 2.;
    if (below_neckline() > 0.) k = 7.;
    else if (on_head() && B.y < face_top && texture(skin_relief, island()).a > .5) k = 1.;
    class_out = vec4(k / 255., 0, 0, 1);
}
